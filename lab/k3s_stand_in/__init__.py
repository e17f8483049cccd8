"""A stand-in for K3s: it speaks the parts of K3s that Muster uses, runs no containers, and says so."""

from .build import build as build

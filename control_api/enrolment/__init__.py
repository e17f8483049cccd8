"""Enrolment: who may register a machine."""

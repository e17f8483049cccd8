"""Real Debian hosts with systemd on one machine, to try, to test and to break Muster on."""

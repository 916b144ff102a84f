"""Tests of the plumbing, with real loopback sockets and real files."""

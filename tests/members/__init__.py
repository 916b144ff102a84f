"""Metanodes come and go under writers: real processes, killed leaders, nothing lost or twice."""

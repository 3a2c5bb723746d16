"""Drills: what a running stack does when its processes, servers and disks fail."""

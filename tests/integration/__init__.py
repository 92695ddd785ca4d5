"""Tests with real servers, files and sockets."""

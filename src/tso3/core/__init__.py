"""Numerical kernels: arrays in, arrays or a frozen record out. No files, no logging, no plots."""

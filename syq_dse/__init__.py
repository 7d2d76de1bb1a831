"""Design space exploration of SYQ-quantised convolutional networks in hardware."""

__version__ = "0.2.0"

"""The pure core: values and functions of values. No I/O, no clock, no chance, no logging."""

"""The machine: threads, memory, paths and stores, interrupts, console, progress."""

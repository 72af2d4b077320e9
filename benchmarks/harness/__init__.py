"""What the benchmarks share: processes and their costs, the rivals, the loads, the tables."""

"""Long runs: kills at random instants, several workers, readers and writers beside the registry."""

"""Where network and science meet: runs judged on their split, baselines alone, folds, galaxies at once."""

"""Whole studies: many runs of many recipes, one page that tells what came of them."""

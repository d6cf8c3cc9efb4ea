"""One function per published figure; each draws numbers and also returns them."""

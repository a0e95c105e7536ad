"""One vendor each, thin: what the ports promise, said in the vendor's own terms."""

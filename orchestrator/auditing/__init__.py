"""Running an audit: the log through `ports.LogReader`, chains through their nodes, the report."""

"""Where measurements come from: one file a source, each saying how it is named, what it can give and how it is read."""

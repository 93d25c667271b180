"""Settings: declared in property files, layered, checked before any data is read, and explained."""

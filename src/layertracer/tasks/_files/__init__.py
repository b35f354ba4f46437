"""Task files of every format, read into records: found, unpacked, decoded, and their fields recognised."""

"""Records of several parts as folders of one header and some tables: written whole, read whole or refused."""

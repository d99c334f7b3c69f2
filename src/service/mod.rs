//! What a method is: its names and versions, its payload encoding, its schema, its handler.

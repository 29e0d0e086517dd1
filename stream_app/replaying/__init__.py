"""The past recomputed: replays into shadow topics and shadow state, and the live group rewound."""

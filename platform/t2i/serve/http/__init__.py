"""HTTP in front of the same generation: OpenAI's Images API, events for the web page, and the page itself."""

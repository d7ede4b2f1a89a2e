"""The server: the OpenAI Videos API over a durable queue, and the workers that make what it holds."""

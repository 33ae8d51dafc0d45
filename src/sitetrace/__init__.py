"""sitetrace: power of LLM inference serving, composed from requests to a site."""

"""The live page: one port with HTTP and one WebSocket over a Show. The only place that speaks HTTP;
knows no Ray."""

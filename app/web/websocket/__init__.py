"""The WebSocket ``/ws``: new results, episodes and decisions as they come. Its route is in app/web/api/websocket.py."""

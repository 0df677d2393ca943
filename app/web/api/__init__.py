"""The API: ``routes`` says what a route is, each of the other files has the handlers of one subject.

Adding a route is one function in one file, with ``@route``: its type, path, role and answers stand there and nowhere
else. Authorization, checks of parameters and bodies, errors and the OpenAPI document are made of them.
"""

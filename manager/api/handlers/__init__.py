"""What the routes do: a file per resource. A handler reads a call, asks a service and presents what it says."""

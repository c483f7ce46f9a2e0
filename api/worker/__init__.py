"""The worker app: what workers outside the cluster ask becomes requests on the log; what the dispatcher decides is told them."""

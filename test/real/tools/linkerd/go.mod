module rig/linkerd

go 1.26.0

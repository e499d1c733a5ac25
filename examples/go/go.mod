module example.com/agent

go 1.24

require example.com/kumatp v0.0.0

replace example.com/kumatp => ../../bindings/go

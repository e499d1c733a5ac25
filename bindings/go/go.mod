module example.com/kumatp

go 1.24

module mpg/benchmarks/twins/go

go 1.19

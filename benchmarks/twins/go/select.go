package main

import (
	"runtime"
	"sync"
)

func init() {
	addOperation("select/ready/cases:2", func(n int) {
		procs := runtime.GOMAXPROCS(0)
		var ended sync.WaitGroup
		ended.Add(procs)
		for p := 0; p < procs; p++ {
			count := share(n, p, procs)
			go func() {
				a, b := make(chan int, 1), make(chan int, 1)
				a <- 0
				for k := 0; k < count; k++ {
					select {
					case <-a:
						b <- 0
					case <-b:
						a <- 0
					}
				}
				ended.Done()
			}()
		}
		ended.Wait()
	})

	addOperation("select/default", func(n int) {
		c := make(chan int)
		missed := 0
		for k := 0; k < n; k++ {
			select {
			case <-c:
			default:
				missed++
			}
		}
		sink += missed
	})

	addOperation("select/sync", func(n int) {
		procs := runtime.GOMAXPROCS(0)
		a, b, c := make(chan int), make(chan int), make(chan int)
		done := make(chan struct{})
		var ended sync.WaitGroup
		ended.Add(procs)
		for p := 0; p < procs; p++ {
			count := share(n, p, procs)
			go func() {
				go func() {
					for {
						select {
						case a <- 0:
						case b <- 0:
						case c <- 0:
						case <-done:
							return
						}
					}
				}()
				for k := 0; k < count; k++ {
					select {
					case <-a:
					case <-b:
					case <-c:
					}
				}
				ended.Done()
			}()
		}
		ended.Wait()
		close(done)
	})
}

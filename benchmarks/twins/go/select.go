package main

import (
	"runtime"
	"sync"
	"time"
)

func onEachProc(n int, run func(n int)) {
	procs := runtime.GOMAXPROCS(0)
	var ended sync.WaitGroup
	ended.Add(procs)
	for p := 0; p < procs; p++ {
		count := share(n, p, procs)
		go func() {
			run(count)
			ended.Done()
		}()
	}
	ended.Wait()
}

func init() {
	addOperation("select/ready/cases:2", func(n int) { onEachProc(n, ready2) })
	addOperation("select/ready/cases:8", func(n int) { onEachProc(n, ready8) })
	addOperation("select/ready/cases:64", func(n int) { onEachProc(n, ready64) })
	addOperation("select/blocking/cases:2", blocking2)
	addOperation("select/blocking/cases:8", blocking8)
	addOperation("select/blocking/cases:64", blocking64)

	addOperation("select/timeout", func(n int) {
		c := make(chan int)
		go func() {
			for k := 0; k < n; k++ {
				c <- 1
			}
		}()
		for k := 0; k < n; k++ {
			late := time.NewTimer(time.Hour)
			select {
			case <-c:
			case <-late.C:
				panic("too late")
			}
			late.Stop()
		}
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

package main

import (
	"runtime"
	"sync"
)

func init() {
	addOperation("task/yield", func(n int) {
		var ended sync.WaitGroup
		ended.Add(2)
		for i := 0; i < 2; i++ {
			count := share(n, i, 2)
			go func() {
				for k := 0; k < count; k++ {
					runtime.Gosched()
				}
				ended.Done()
			}()
		}
		ended.Wait()
	})

	addOperation("task/spawn_wait", func(n int) {
		for left := n; left > 0; left -= 1000 {
			batch := left
			if batch > 1000 {
				batch = 1000
			}
			var ended sync.WaitGroup
			ended.Add(batch)
			for k := 0; k < batch; k++ {
				go func() { ended.Done() }()
			}
			ended.Wait()
		}
	})

	// Go has no join: the result comes over a channel made for it.
	addOperation("task/spawn_join", func(n int) {
		sum := 0
		for k := 0; k < n; k++ {
			result := make(chan int, 1)
			go func(k int) { result <- k }(k)
			sum += <-result
		}
		sink += sum
	})
}

// sink keeps results alive.
var sink int

package main

import (
	"runtime"
	"sync"
)

func init() {
	addOperation("sync/mutex/uncontended", func(n int) {
		var m sync.Mutex
		count := 0
		for k := 0; k < n; k++ {
			m.Lock()
			count++
			m.Unlock()
		}
		sink += count
	})

	addOperation("sync/mutex/contended", func(n int) {
		var m sync.Mutex
		count := 0
		var ended sync.WaitGroup
		ended.Add(8)
		for i := 0; i < 8; i++ {
			rounds := share(n, i, 8)
			go func() {
				for k := 0; k < rounds; k++ {
					m.Lock()
					count++
					m.Unlock()
				}
				ended.Done()
			}()
		}
		ended.Wait()
		sink += count
	})

	addOperation("sync/shared_mutex/read", func(n int) {
		var m sync.RWMutex
		procs := runtime.GOMAXPROCS(0)
		var ended sync.WaitGroup
		ended.Add(procs)
		for p := 0; p < procs; p++ {
			rounds := share(n, p, procs)
			go func() {
				for k := 0; k < rounds; k++ {
					m.RLock()
					m.RUnlock()
				}
				ended.Done()
			}()
		}
		ended.Wait()
	})
}

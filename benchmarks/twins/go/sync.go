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

	addOperation("sync/shared_mutex/write", func(n int) {
		var m sync.RWMutex
		count := 0
		for k := 0; k < n; k++ {
			m.Lock()
			count++
			m.Unlock()
		}
		sink += count
	})

	addOperation("sync/shared_mutex/contended", func(n int) {
		var m sync.RWMutex
		count := 0
		var ended sync.WaitGroup
		ended.Add(8)
		for i := 0; i < 8; i++ {
			rounds := share(n, i, 8)
			go func() {
				seen := 0
				for k := 0; k < rounds; k++ {
					if k%10 == 0 {
						m.Lock()
						count++
						m.Unlock()
					} else {
						m.RLock()
						seen += count
						m.RUnlock()
					}
				}
				m.Lock()
				sink += seen
				m.Unlock()
				ended.Done()
			}()
		}
		ended.Wait()
	})

	addOperation("sync/condition_variable/ping_pong", func(n int) {
		var m sync.Mutex
		changed := sync.NewCond(&m)
		turn := 0
		play := func(mine int) {
			for k := 0; k < n; k++ {
				m.Lock()
				for turn != mine {
					changed.Wait()
				}
				turn = 1 - mine
				changed.Signal()
				m.Unlock()
			}
		}
		ended := make(chan struct{})
		go func() {
			play(1)
			close(ended)
		}()
		play(0)
		<-ended
	})
}

package main

import (
	"fmt"
	"runtime"
	"sync"
)

func pingPong(n, capacity int, echo func(ping, pong chan int)) {
	ping, pong := make(chan int, capacity), make(chan int, capacity)
	go echo(ping, pong)
	for k := 0; k < n; k++ {
		ping <- 1
		<-pong
	}
	close(ping)
}

func init() {
	for _, capacity := range []int{0, 1} {
		capacity := capacity
		addOperation(fmt.Sprintf("chan/ping_pong/cap:%d", capacity), func(n int) {
			pingPong(n, capacity, func(ping, pong chan int) {
				for v := range ping {
					pong <- v
				}
			})
		})
	}

	// The other side keeps a thread for itself.
	addOperation("wake/thread", func(n int) {
		pingPong(n, 0, func(ping, pong chan int) {
			runtime.LockOSThread()
			for v := range ping {
				pong <- v
			}
		})
	})

	addOperation("chan/uncontended/cap:100", func(n int) {
		c := make(chan int, 100)
		for left := n; left > 0; left -= 100 {
			batch := left
			if batch > 100 {
				batch = 100
			}
			for k := 0; k < batch; k++ {
				c <- 0
			}
			for k := 0; k < batch; k++ {
				<-c
			}
		}
	})

	for _, capacity := range []int{0, 10, 100, 1000} {
		capacity := capacity
		addOperation(fmt.Sprintf("chan/prod_cons/cap:%d", capacity), func(n int) {
			c := make(chan int, capacity)
			go func() {
				for k := 0; k < n; k++ {
					c <- 1
				}
				close(c)
			}()
			sum := 0
			for v := range c {
				sum += v
			}
			sink += sum
		})
	}

	addOperation("chan/contended", func(n int) {
		procs := runtime.GOMAXPROCS(0)
		c := make(chan int, 100*procs)
		var ended sync.WaitGroup
		ended.Add(procs)
		for p := 0; p < procs; p++ {
			rounds := (share(n, p, procs) + 99) / 100
			go func() {
				for r := 0; r < rounds; r++ {
					for k := 0; k < 100; k++ {
						c <- 0
					}
					for k := 0; k < 100; k++ {
						<-c
					}
				}
				ended.Done()
			}()
		}
		ended.Wait()
	})

	addOperation("chan/mpmc/cap:100", func(n int) {
		const side = 50
		c := make(chan int, 100)
		var ended sync.WaitGroup
		ended.Add(2 * side)
		for i := 0; i < side; i++ {
			count := share(n, i, side)
			go func() {
				for k := 0; k < count; k++ {
					c <- 1
				}
				ended.Done()
			}()
			go func() {
				for k := 0; k < count; k++ {
					<-c
				}
				ended.Done()
			}()
		}
		ended.Wait()
	})
}

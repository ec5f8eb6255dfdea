package main

import (
	"fmt"
	"sync"
	"syscall"
	"time"
)

func expect(got, wanted int) {
	if got != wanted {
		panic(fmt.Sprintf("got %d, not %d", got, wanted))
	}
}

func skynetChannels(out chan int, first, size int) {
	if size == 1 {
		out <- first
		return
	}
	results := make(chan int)
	for i := 0; i < 10; i++ {
		go skynetChannels(results, first+i*(size/10), size/10)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-results
	}
	out <- sum
}

// The twin of a join: the child's result in a channel of capacity one.
func skynetJoin(first, size int) int {
	if size == 1 {
		return first
	}
	var results [10]chan int
	for i := range results {
		results[i] = make(chan int, 1)
		go func(i int) { results[i] <- skynetJoin(first+i*(size/10), size/10) }(i)
	}
	sum := 0
	for _, r := range results {
		sum += <-r
	}
	return sum
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	a, b := make(chan int, 1), make(chan int, 1)
	go func() { a <- fib(n - 1) }()
	go func() { b <- fib(n - 2) }()
	return <-a + <-b
}

const board = 11

func queens(row, columns, left, right uint) int {
	if row == board {
		return 1
	}
	var results [board]chan int
	count := 0
	for free := ^(columns | left | right) & (1<<board - 1); free != 0; free &= free - 1 {
		bit, result := free&-free, make(chan int, 1)
		results[count] = result
		count++
		go func() { result <- queens(row+1, columns|bit, (left|bit)<<1, (right|bit)>>1) }()
	}
	sum := 0
	for _, r := range results[:count] {
		sum += <-r
	}
	return sum
}

const order = 512

func multiply(a, b, c []float64, n int) {
	if n <= 64 {
		for i := 0; i < n; i++ {
			out := c[i*order : i*order+n]
			for k := 0; k < n; k++ {
				x, in := a[i*order+k], b[k*order:k*order+n]
				for j := range out {
					out[j] += x * in[j]
				}
			}
		}
		return
	}
	h := n / 2
	down := h * order
	for _, k := range []int{0, 1} {
		left, top := a[k*h:], b[k*down:]
		var ended sync.WaitGroup
		ended.Add(4)
		quarter := func(a, b, c []float64) {
			multiply(a, b, c, h)
			ended.Done()
		}
		go quarter(left, top, c)
		go quarter(left, top[h:], c[h:])
		go quarter(left[down:], top, c[down:])
		go quarter(left[down:], top[h:], c[down+h:])
		ended.Wait()
	}
}

func filled(x float64) []float64 {
	m := make([]float64, order*order)
	for i := range m {
		m[i] = x
	}
	return m
}

func nap() {
	ms := syscall.Timespec{Nsec: 1e6}
	syscall.Nanosleep(&ms, nil)
}

func napAll() {
	var ended sync.WaitGroup
	ended.Add(100)
	for i := 0; i < 100; i++ {
		go func() {
			for k := 0; k < 20; k++ {
				nap()
			}
			ended.Done()
		}()
	}
	ended.Wait()
}

func init() {
	addProgram("program/sleep_storm", func() {
		const tasks = 10000
		var ended sync.WaitGroup
		ended.Add(tasks)
		for i := 0; i < tasks; i++ {
			go func() {
				for k := 0; k < 20; k++ {
					time.Sleep(time.Millisecond)
				}
				ended.Done()
			}()
		}
		ended.Wait()
	})

	addProgram("program/skynet_channels", func() {
		out := make(chan int)
		go skynetChannels(out, 0, 1000000)
		expect(<-out, 499999500000)
	})

	addProgram("program/skynet_join", func() { expect(skynetJoin(0, 1000000), 499999500000) })

	addPerTask("program/fib_join", 2*317811-1, func() { expect(fib(27), 196418) })

	addProgram("program/nqueens", func() { expect(queens(0, 0, 0, 0), 2680) })

	addProgram("program/matmul", func() {
		c := filled(0)
		multiply(filled(1), filled(2), c, order)
		for _, x := range c {
			expect(int(x), 2*order)
		}
	})

	addProgram("program/sieve", func() {
		numbers := make(chan int)
		go func(out chan int) {
			for i := 2; ; i++ {
				out <- i
			}
		}(numbers)
		prime := 0
		for found := 0; found < 2000; found++ {
			prime = <-numbers
			left := make(chan int)
			go func(in, out chan int, prime int) {
				for {
					if i := <-in; i%prime != 0 {
						out <- i
					}
				}
			}(numbers, left, prime)
			numbers = left
		}
		expect(prime, 17389)
	})

	// Go announces every system call by itself: one program is the twin of both.
	addProgram("program/blocking/announced", napAll)
	addProgram("program/blocking/unannounced", napAll)

	addProgram("program/create_1m", func() {
		const tasks = 1000000
		never := make(chan struct{})
		var started sync.WaitGroup
		started.Add(tasks)
		for i := 0; i < tasks; i++ {
			go func() {
				started.Done()
				<-never
			}()
		}
		started.Wait()
	})
}

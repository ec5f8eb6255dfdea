// The twin of examples/01_hello_tasks, for the size of its program.
package main

import "fmt"

func main() {
	squares := make(chan int)
	for i := 0; i < 3; i++ {
		go func(i int) { squares <- i * i }(i)
	}
	for i := 0; i < 3; i++ {
		fmt.Println(<-squares)
	}
}

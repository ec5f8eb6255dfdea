package main

// Go selects among a fixed number of cases by a statement that names each of them; so it is written out.

func ready2(n int) {
	var c [2]chan int
	for i := range c {
		c[i] = make(chan int, 1)
	}
	c[0] <- 0
	for k := 0; k < n; k++ {
		select {
		case <-c[0]:
			c[1] <- 0
		case <-c[1]:
			c[0] <- 0
		}
	}
}

func blocking2(n int) {
	var c [2]chan int
	for i := range c {
		c[i] = make(chan int)
	}
	go func() {
		for k := 0; k < n; k++ {
			c[k%2] <- 1
		}
	}()
	for k := 0; k < n; k++ {
		select {
		case <-c[0]:
		case <-c[1]:
		}
	}
}

func ready8(n int) {
	var c [8]chan int
	for i := range c {
		c[i] = make(chan int, 1)
	}
	c[0] <- 0
	for k := 0; k < n; k++ {
		select {
		case <-c[0]:
			c[1] <- 0
		case <-c[1]:
			c[2] <- 0
		case <-c[2]:
			c[3] <- 0
		case <-c[3]:
			c[4] <- 0
		case <-c[4]:
			c[5] <- 0
		case <-c[5]:
			c[6] <- 0
		case <-c[6]:
			c[7] <- 0
		case <-c[7]:
			c[0] <- 0
		}
	}
}

func blocking8(n int) {
	var c [8]chan int
	for i := range c {
		c[i] = make(chan int)
	}
	go func() {
		for k := 0; k < n; k++ {
			c[k%8] <- 1
		}
	}()
	for k := 0; k < n; k++ {
		select {
		case <-c[0]:
		case <-c[1]:
		case <-c[2]:
		case <-c[3]:
		case <-c[4]:
		case <-c[5]:
		case <-c[6]:
		case <-c[7]:
		}
	}
}

func ready64(n int) {
	var c [64]chan int
	for i := range c {
		c[i] = make(chan int, 1)
	}
	c[0] <- 0
	for k := 0; k < n; k++ {
		select {
		case <-c[0]:
			c[1] <- 0
		case <-c[1]:
			c[2] <- 0
		case <-c[2]:
			c[3] <- 0
		case <-c[3]:
			c[4] <- 0
		case <-c[4]:
			c[5] <- 0
		case <-c[5]:
			c[6] <- 0
		case <-c[6]:
			c[7] <- 0
		case <-c[7]:
			c[8] <- 0
		case <-c[8]:
			c[9] <- 0
		case <-c[9]:
			c[10] <- 0
		case <-c[10]:
			c[11] <- 0
		case <-c[11]:
			c[12] <- 0
		case <-c[12]:
			c[13] <- 0
		case <-c[13]:
			c[14] <- 0
		case <-c[14]:
			c[15] <- 0
		case <-c[15]:
			c[16] <- 0
		case <-c[16]:
			c[17] <- 0
		case <-c[17]:
			c[18] <- 0
		case <-c[18]:
			c[19] <- 0
		case <-c[19]:
			c[20] <- 0
		case <-c[20]:
			c[21] <- 0
		case <-c[21]:
			c[22] <- 0
		case <-c[22]:
			c[23] <- 0
		case <-c[23]:
			c[24] <- 0
		case <-c[24]:
			c[25] <- 0
		case <-c[25]:
			c[26] <- 0
		case <-c[26]:
			c[27] <- 0
		case <-c[27]:
			c[28] <- 0
		case <-c[28]:
			c[29] <- 0
		case <-c[29]:
			c[30] <- 0
		case <-c[30]:
			c[31] <- 0
		case <-c[31]:
			c[32] <- 0
		case <-c[32]:
			c[33] <- 0
		case <-c[33]:
			c[34] <- 0
		case <-c[34]:
			c[35] <- 0
		case <-c[35]:
			c[36] <- 0
		case <-c[36]:
			c[37] <- 0
		case <-c[37]:
			c[38] <- 0
		case <-c[38]:
			c[39] <- 0
		case <-c[39]:
			c[40] <- 0
		case <-c[40]:
			c[41] <- 0
		case <-c[41]:
			c[42] <- 0
		case <-c[42]:
			c[43] <- 0
		case <-c[43]:
			c[44] <- 0
		case <-c[44]:
			c[45] <- 0
		case <-c[45]:
			c[46] <- 0
		case <-c[46]:
			c[47] <- 0
		case <-c[47]:
			c[48] <- 0
		case <-c[48]:
			c[49] <- 0
		case <-c[49]:
			c[50] <- 0
		case <-c[50]:
			c[51] <- 0
		case <-c[51]:
			c[52] <- 0
		case <-c[52]:
			c[53] <- 0
		case <-c[53]:
			c[54] <- 0
		case <-c[54]:
			c[55] <- 0
		case <-c[55]:
			c[56] <- 0
		case <-c[56]:
			c[57] <- 0
		case <-c[57]:
			c[58] <- 0
		case <-c[58]:
			c[59] <- 0
		case <-c[59]:
			c[60] <- 0
		case <-c[60]:
			c[61] <- 0
		case <-c[61]:
			c[62] <- 0
		case <-c[62]:
			c[63] <- 0
		case <-c[63]:
			c[0] <- 0
		}
	}
}

func blocking64(n int) {
	var c [64]chan int
	for i := range c {
		c[i] = make(chan int)
	}
	go func() {
		for k := 0; k < n; k++ {
			c[k%64] <- 1
		}
	}()
	for k := 0; k < n; k++ {
		select {
		case <-c[0]:
		case <-c[1]:
		case <-c[2]:
		case <-c[3]:
		case <-c[4]:
		case <-c[5]:
		case <-c[6]:
		case <-c[7]:
		case <-c[8]:
		case <-c[9]:
		case <-c[10]:
		case <-c[11]:
		case <-c[12]:
		case <-c[13]:
		case <-c[14]:
		case <-c[15]:
		case <-c[16]:
		case <-c[17]:
		case <-c[18]:
		case <-c[19]:
		case <-c[20]:
		case <-c[21]:
		case <-c[22]:
		case <-c[23]:
		case <-c[24]:
		case <-c[25]:
		case <-c[26]:
		case <-c[27]:
		case <-c[28]:
		case <-c[29]:
		case <-c[30]:
		case <-c[31]:
		case <-c[32]:
		case <-c[33]:
		case <-c[34]:
		case <-c[35]:
		case <-c[36]:
		case <-c[37]:
		case <-c[38]:
		case <-c[39]:
		case <-c[40]:
		case <-c[41]:
		case <-c[42]:
		case <-c[43]:
		case <-c[44]:
		case <-c[45]:
		case <-c[46]:
		case <-c[47]:
		case <-c[48]:
		case <-c[49]:
		case <-c[50]:
		case <-c[51]:
		case <-c[52]:
		case <-c[53]:
		case <-c[54]:
		case <-c[55]:
		case <-c[56]:
		case <-c[57]:
		case <-c[58]:
		case <-c[59]:
		case <-c[60]:
		case <-c[61]:
		case <-c[62]:
		case <-c[63]:
		}
	}
}

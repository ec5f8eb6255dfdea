// <liburing.h>, without what it brings in by accident: the kernel's <linux/fs.h> defines a macro BLOCK_SIZE, which
// moodycamel's ConcurrentQueue, among others, uses as a name.
#pragma once

#pragma push_macro("BLOCK_SIZE")
#include <liburing.h>
#pragma pop_macro("BLOCK_SIZE")

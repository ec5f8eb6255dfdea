// Parsed once for all tests; no test includes it itself.
#include "support.hpp"

#include <mpg/mpg.hpp>

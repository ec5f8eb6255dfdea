#include <mpg/tls.hpp>

bool has_roots();
bool has_roots() { return mpg::tls::roots::system().has_value(); }

// The probes as a shared object: see hazard_probe.hpp.
#include "hazard_probe.ipp"

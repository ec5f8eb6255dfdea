#include <mpg/chan.hpp>

int main() {
    mpg::chan<int> c(1);
    c.send(1);
    int got = *c.recv();
    mpg::elastic_chan<int> e;
    e.send(2);
    c.close();
    return got + e.recv()->value - 3;
}

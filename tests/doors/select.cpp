#include <mpg/select.hpp>

int main() {
    mpg::chan<int> c(1);
    mpg::select(mpg::on_send(c, 1), mpg::on_timeout(std::chrono::nanoseconds(0)));
    mpg::select_set set;
    set.recv(c).otherwise();
    return static_cast<int>(set.wait());
}

// nginx as a health server: `health_nginx --addr HOST:PORT --procs N` writes a configuration and becomes
// nginx with so many workers (0: one a CPU). As its operators run it, but that nothing is logged and a
// connection may ask for ever. To write the configuration costs a tenth of a millisecond of its start.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char** argv) {
    if (argc != 5) return std::fprintf(stderr, "usage: %s --addr HOST:PORT --procs N\n", argv[0]), 2;
    const std::string address = argv[2], procs = argv[4];
    const std::string workers = procs == "0" ? "auto" : procs;
    // No file that would be left behind: nginx inherits the memory and reads it by its descriptor.
    const int fd = ::memfd_create("health_nginx", 0);
    if (fd < 0) return std::perror("memfd_create"), 1;
    const std::string name = "/proc/self/fd/" + std::to_string(fd);
    const std::string configuration =
        "daemon off;\nworker_processes " + workers +
        ";\npid /tmp/health_nginx.pid;\nerror_log stderr crit;\n"
        "events { worker_connections 8192; use epoll; }\n"
        "http {\n"
        "  access_log off;\n  keepalive_requests 1000000000;\n"
        "  server {\n    listen " +
        address +
        " reuseport backlog=4096;\n"
        "    location = /healthz {\n      default_type application/json;\n"
        "      return 200 '{\"status\":\"ok\",\"timestamp\":$msec}';\n    }\n  }\n}\n";
    if (::write(fd, configuration.data(), configuration.size()) !=
        static_cast<::ssize_t>(configuration.size()))
        return std::perror("write"), 1;
    ::setenv("PATH", "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/sbin:/bin", 1);
    ::execlp("nginx", "nginx", "-c", name.c_str(), "-e", "stderr", nullptr);
    std::perror("nginx");
    return 1;
}

// A kernel that encrypts TLS, where the real one has no module for it: it does with the keys that it is given what
// RFC 8446, 5.2 and 5.3, says. On epoll alone, since a ring goes past it.
#pragma once

#include "faults.hpp"

#include <openssl/evp.h>

#include <array>
#include <cstring>
#include <linux/tls.h>
#include <map>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>

namespace mpg::test {

class kernel_tls final : public socket_layer {
  public:
    explicit kernel_tls(int refused_with = 0) noexcept
        : refused_with_(refused_with) {}
    int asked() const noexcept { return asked_; }       // for the layer
    int taken() const noexcept { return taken_; }       // keys
    int records() const noexcept { return records_; }   // of data
    int alerts() const noexcept { return alerts_; }

    int setsockopt(int fd, int level, int name, const void* value, ::socklen_t n) noexcept override {
        if (level == IPPROTO_TCP && name == TCP_ULP) {
            ++asked_;
            return refused_with_ != 0 ? (errno = refused_with_, -1) : 0;
        }
        if (level != SOL_TLS) return ::setsockopt(fd, level, name, value, n);
        const std::lock_guard lock(mutex_);
        if (name != TLS_TX || !take(sockets_[fd], static_cast<const unsigned char*>(value), n)) return errno = EINVAL, -1;
        ++taken_;
        return 0;
    }
    ::ssize_t send(int fd, const void* from, std::size_t n, int flags) noexcept override {
        const std::lock_guard lock(mutex_);
        const auto at = sockets_.find(fd);
        if (at == sockets_.end()) return ::send(fd, from, n, flags);
        return put(fd, at->second, 23, from, std::min<std::size_t>(n, 16384));
    }
    ::ssize_t sendmsg(int fd, const ::msghdr* m, int flags) noexcept override {
        const std::lock_guard lock(mutex_);
        const auto at = sockets_.find(fd);
        if (at == sockets_.end()) return ::sendmsg(fd, m, flags);
        unsigned char type = 23;
        for (::cmsghdr* c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(const_cast<::msghdr*>(m), c))
            if (c->cmsg_level == SOL_TLS && c->cmsg_type == TLS_SET_RECORD_TYPE) type = *CMSG_DATA(c);
        return put(fd, at->second, type, m->msg_iov->iov_base, m->msg_iov->iov_len);
    }

    ::ssize_t sendfile(int to, int from, ::off_t*, std::size_t n) noexcept override {
        const std::lock_guard lock(mutex_);
        const auto s = sockets_.find(to);
        if (s == sockets_.end()) return ::sendfile(to, from, nullptr, n);
        std::array<char, 10'000> piece;
        const ::ssize_t got = ::pread(from, piece.data(), std::min(n, piece.size()), ::lseek(from, 0, SEEK_CUR));
        if (got <= 0) return got;
        const ::ssize_t sent = put(to, s->second, 23, piece.data(), static_cast<std::size_t>(got));
        if (sent > 0) ::lseek(from, sent, SEEK_CUR);
        return sent;
    }

  private:
    struct socket {
        const EVP_CIPHER* cipher = nullptr;
        std::string key, nonce;
        std::uint64_t next = 0;
        std::string rest; // of the record that is on its way
    };
    template <class Info> static bool take_as(socket& s, const EVP_CIPHER* cipher, const unsigned char* value, ::socklen_t n) {
        Info i;
        if (n != sizeof i) return false;
        std::memcpy(&i, value, sizeof i);
        s.cipher = cipher;
        s.key.assign(reinterpret_cast<char*>(i.key), sizeof i.key);
        s.nonce.assign(reinterpret_cast<char*>(i.salt), sizeof i.salt);
        s.nonce.append(reinterpret_cast<char*>(i.iv), sizeof i.iv);
        for (unsigned char byte : i.rec_seq) s.next = s.next << 8 | byte;
        return true;
    }
    static bool take(socket& s, const unsigned char* value, ::socklen_t n) {
        ::tls_crypto_info info;
        if (n < sizeof info) return false;
        std::memcpy(&info, value, sizeof info);
        if (info.version != TLS_1_3_VERSION) return false;
        s = socket();
        switch (info.cipher_type) {
        case TLS_CIPHER_AES_GCM_128:
            return take_as<::tls12_crypto_info_aes_gcm_128>(s, EVP_aes_128_gcm(), value, n);
        case TLS_CIPHER_AES_GCM_256:
            return take_as<::tls12_crypto_info_aes_gcm_256>(s, EVP_aes_256_gcm(), value, n);
        case TLS_CIPHER_CHACHA20_POLY1305:
            return take_as<::tls12_crypto_info_chacha20_poly1305>(s, EVP_chacha20_poly1305(), value, n);
        default:
            return false;
        }
    }
    static std::string seal(socket& s, unsigned char type, const void* from, std::size_t n) {
        const std::size_t size = n + 1 + 16;
        std::string record{'\x17', '\x03', '\x03', static_cast<char>(size >> 8), static_cast<char>(size)};
        record.resize(5 + size);
        std::string nonce = s.nonce;
        for (std::size_t i = 0; i != 8; ++i) nonce[11 - i] = static_cast<char>(nonce[11 - i] ^ static_cast<char>(s.next >> 8 * i));
        ++s.next;
        const auto u = [](const auto* p) { return reinterpret_cast<const unsigned char*>(p); };
        auto* out = reinterpret_cast<unsigned char*>(record.data());
        EVP_CIPHER_CTX* c = EVP_CIPHER_CTX_new();
        int k = 0, done = 5;
        EVP_EncryptInit_ex(c, s.cipher, nullptr, u(s.key.data()), u(nonce.data()));
        EVP_EncryptUpdate(c, nullptr, &k, out, 5);
        EVP_EncryptUpdate(c, out + done, &k, static_cast<const unsigned char*>(from), static_cast<int>(n));
        done += k;
        EVP_EncryptUpdate(c, out + done, &k, &type, 1);
        done += k;
        EVP_EncryptFinal_ex(c, out + done, &k);
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, out + done);
        EVP_CIPHER_CTX_free(c);
        return record;
    }
    /// EAGAIN until the whole record has left; whoever gets that comes back with the same.
    ::ssize_t put(int fd, socket& s, unsigned char type, const void* from, std::size_t n) {
        if (s.rest.empty()) s.rest = seal(s, type, from, n);
        while (!s.rest.empty()) {
            const ::ssize_t sent = ::send(fd, s.rest.data(), s.rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent < 0) return -1;
            s.rest.erase(0, static_cast<std::size_t>(sent));
        }
        ++(type == 23 ? records_ : alerts_);
        return static_cast<::ssize_t>(n);
    }

    const int refused_with_;
    std::mutex mutex_;
    std::map<int, socket> sockets_; // never forgotten: numbers of the test's sockets are not used again in it
    std::atomic<int> asked_{0}, taken_{0}, records_{0}, alerts_{0};
};

} // namespace mpg::test

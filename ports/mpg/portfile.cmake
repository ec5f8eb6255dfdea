# An overlay port: it builds the tree in which it lies (vcpkg install mpg --overlay-ports=<repository>/ports).
set(VCPKG_BUILD_TYPE release) # headers only
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)

vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        -DMPG_BUILD_TESTS=OFF
        -DMPG_BUILD_EXAMPLES=OFF
        -DMPG_BUILD_BENCHMARKS=OFF
        -DMPG_BUILD_TRACE=OFF
        -DMPG_INSTALL=ON)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/mpg)
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/cmake")

file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")

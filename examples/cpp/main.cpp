// Measures one box of the camera's image: a C++ caller of ~/measure_regions.
//
//   ros2 run sdvlm_cpp_example measure mug 189 193 266 300
//
// Prints position and size with their standard deviations. Exit status 0 = fit to act on,
// 1 = refused, or unfit to act on, with the reason on stderr, 2 = wrong usage.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include "rclcpp/rclcpp.hpp"
#include "sdvlm/srv/measure_regions.hpp"

using MeasureRegions = sdvlm::srv::MeasureRegions;
using namespace std::chrono_literals;

// The warnings that make a measurement unfit to act on: `UNFIT` of sdvlm_core/cautions.py, which
// tests/ros/test_examples.py compares.
constexpr std::array<const char *, 13> kUnfit{
  "implausible_intrinsics", "camera_info_mismatch", "unregistered_depth", "implausible_depth",
  "constant_depth", "up_uncertain", "outside_image", "too_few_points", "truncated",
  "transparent_or_reflective", "nothing_stands_out", "ambiguous_extent", "estimated_depth"};

static MeasureRegions::Request::SharedPtr make_request(
  const std::string & label, const std::array<unsigned, 4> & box)
{
  sdvlm::msg::Region region;
  region.label = label;
  region.roi.x_offset = box[0];
  region.roi.y_offset = box[1];
  region.roi.width = box[2] - box[0];
  region.roi.height = box[3] - box[1];
  auto request = std::make_shared<MeasureRegions::Request>();
  request->regions.push_back(region);
  return request;
}

static int report(const MeasureRegions::Response & response)
{
  if (response.error_code != 0) {
    std::fprintf(stderr, "measure: %u: %s\n", response.error_code, response.error_msg.c_str());
    return 1;
  }
  const auto & found = response.regions.at(0);
  const auto & at = found.pose.position;
  // NaN is an unknown value, never 0.
  std::printf(
    "%s in %s: x %.3f y %.3f z %.3f m (+- %.3f each)\n", found.label.c_str(),
    response.header.frame_id.c_str(), at.x, at.y, at.z, found.position_std_dev);
  std::printf(
    "length %.3f +- %.3f, width %.3f +- %.3f, height %.3f +- %.3f m\n", found.length,
    found.length_std_dev, found.width, found.width_std_dev, found.height, found.height_std_dev);
  int status = 0;
  for (const auto & warning : found.warnings) {
    const bool unfit = std::find(kUnfit.begin(), kUnfit.end(), warning) != kUnfit.end();
    std::fprintf(stderr, "measure: %s%s\n", warning.c_str(), unfit ? ": unfit to act on" : "");
    status = unfit ? 1 : status;
  }
  return status;
}

int main(int argc, char ** argv)
{
  const auto words = rclcpp::init_and_remove_ros_arguments(argc, argv);
  std::array<unsigned, 4> box{};
  try {
    if (words.size() != 6) {throw std::invalid_argument("five arguments are needed");}
    for (size_t i = 0; i < 4; ++i) {
      box[i] = static_cast<unsigned>(std::stoul(words[i + 2]));
    }
    if (box[2] <= box[0] || box[3] <= box[1]) {throw std::invalid_argument("an empty box");}
  } catch (const std::exception & error) {
    std::fprintf(stderr, "usage: measure LABEL X1 Y1 X2 Y2 (pixels): %s\n", error.what());
    return 2;
  }
  const auto node = rclcpp::Node::make_shared("measure");
  const auto client = node->create_client<MeasureRegions>("/spatial_query/measure_regions");
  if (!client->wait_for_service(10s)) {
    std::fprintf(stderr, "measure: %s is not available\n", client->get_service_name());
    return 1;
  }
  auto reply = client->async_send_request(make_request(words[1], box));
  if (rclcpp::spin_until_future_complete(node, reply, 10s) != rclcpp::FutureReturnCode::SUCCESS) {
    std::fprintf(stderr, "measure: no reply within 10 s\n");
    return 1;
  }
  const int status = report(*reply.get());
  rclcpp::shutdown();
  return status;
}

//! Gives every value back as it came.

wit_bindgen::generate!({ world: "perdure:values/values", path: "wit" });

use exports::perdure::values::echo::{Access, Colour, Everything, Guest, Point, Shape};

struct Component;

impl Guest for Component {
    fn via_bool(v: bool) -> bool {
        v
    }

    fn via_u8(v: u8) -> u8 {
        v
    }

    fn via_s8(v: i8) -> i8 {
        v
    }

    fn via_u16(v: u16) -> u16 {
        v
    }

    fn via_s16(v: i16) -> i16 {
        v
    }

    fn via_u32(v: u32) -> u32 {
        v
    }

    fn via_s32(v: i32) -> i32 {
        v
    }

    fn via_u64(v: u64) -> u64 {
        v
    }

    fn via_s64(v: i64) -> i64 {
        v
    }

    fn via_f32(v: f32) -> f32 {
        v
    }

    fn via_f64(v: f64) -> f64 {
        v
    }

    fn via_char(v: char) -> char {
        v
    }

    fn via_string(v: String) -> String {
        v
    }

    fn via_bytes(v: Vec<u8>) -> Vec<u8> {
        v
    }

    fn via_numbers(v: Vec<u64>) -> Vec<u64> {
        v
    }

    fn via_strings(v: Vec<String>) -> Vec<String> {
        v
    }

    fn via_nested(v: Vec<Vec<Option<String>>>) -> Vec<Vec<Option<String>>> {
        v
    }

    fn via_tuple(v: (u8, String, f64)) -> (u8, String, f64) {
        v
    }

    fn via_option(v: Option<Option<u32>>) -> Option<Option<u32>> {
        v
    }

    fn via_result(v: Result<String, Colour>) -> Result<String, Colour> {
        v
    }

    fn via_no_payload(v: Result<(), ()>) -> Result<(), ()> {
        v
    }

    fn via_colour(v: Colour) -> Colour {
        v
    }

    fn via_access(v: Access) -> Access {
        v
    }

    fn via_point(v: Point) -> Point {
        v
    }

    fn via_shape(v: Shape) -> Shape {
        v
    }

    fn via_everything(v: Everything) -> Everything {
        v
    }

    fn via_many(
        a: u8,
        b: String,
        c: Vec<u16>,
        d: f32,
        e: Option<char>,
        f: Point,
    ) -> (u8, String, Vec<u16>, f32, Option<char>, Point) {
        (a, b, c, d, e, f)
    }
}

export!(Component);

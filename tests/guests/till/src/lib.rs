//! The user of the two composed guests: it holds, lends and gives away carts of the shop.

#![no_std]
extern crate alloc;

#[path = "../../common/bare.rs"]
mod bare;

use alloc::{format, string::String, vec::Vec};
use core::cell::RefCell;

wit_bindgen::generate!({ world: "perdure:till/till", path: ["../shop/wit", "wit"], std_feature, generate_all });

use exports::perdure::till::sales::Guest;
use perdure::compose::store::{self, Cart, Item};

struct Shelf(RefCell<Vec<Cart>>);

// One thread only: a component is never entered by two.
unsafe impl Sync for Shelf {}

static SHELF: Shelf = Shelf(RefCell::new(Vec::new()));

struct Till;

impl Guest for Till {
    fn sell(owner: String, things: Vec<(String, u64, u32)>) -> Result<(u64, Vec<String>), String> {
        let cart = Cart::new(&owner);
        for (name, price, count) in things {
            let item = Item { name: name.clone(), price };
            cart.add(&item, count).map_err(|failure| format!("{name}: {}", failure.name()))?;
        }
        let total = cart.total().map_err(|failure| format!("{}: {}", cart.owner(), failure.name()))?;
        Ok((total, cart.items().into_iter().map(|(item, count)| format!("{count} {}", item.name)).collect()))
    }

    fn put_away(owner: String, thing: String, price: u64) {
        let cart = Cart::new(&owner);
        cart.add(&Item { name: thing, price }, 1).unwrap();
        SHELF.0.borrow_mut().push(cart);
    }

    fn sum_up() -> (String, u64) {
        let merged = SHELF.0.take().into_iter().reduce(Cart::merge).unwrap();
        (merged.owner(), merged.total().unwrap())
    }

    fn alive() -> u32 {
        store::alive()
    }
}

export!(Till);
